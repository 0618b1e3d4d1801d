"""The modality norm: affine by code, baking, the fused forward."""

from __future__ import annotations

import pytest
import torch

from models.network import NetworkShape, SharedNetwork
from models.normalisation import IMAGE_KINDS, ModalityInstanceNorm, count_parameters, kind_code

SHAPE = NetworkShape({"torso": 4, "knee": 3}, filters=4, blocks_down=(1, 1, 1), blocks_up=(1, 1), supervised_levels=2)


@pytest.fixture
def network() -> SharedNetwork:
    torch.manual_seed(2)
    net = SharedNetwork(SHAPE)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(("gamma", "beta")):  # as after training: every kind its own affine
                parameter.add_(0.3 * torch.randn_like(parameter))
    return net.eval()


def test_norm_is_instance_norm_with_the_affine_of_the_code() -> None:
    torch.manual_seed(0)
    norm = ModalityInstanceNorm(3, 4)
    with torch.no_grad():
        norm.gamma.normal_()
        norm.beta.normal_()
    x = torch.randn(2, 3, 4, 5, 6)
    code = torch.cat([kind_code("MR"), kind_code("CT")])
    plain = torch.nn.functional.instance_norm(x)
    rows = [IMAGE_KINDS.index("MR"), IMAGE_KINDS.index("CT")]
    expected = plain * norm.gamma[rows][:, :, None, None, None] + norm.beta[rows][:, :, None, None, None]
    torch.testing.assert_close(norm(x, code), expected, atol=1e-5, rtol=1e-5)


def test_kind_that_is_not_known_gets_the_unknown_code() -> None:
    assert torch.equal(kind_code("PT"), kind_code("unknown"))


@pytest.mark.parametrize("anatomy", ["torso", "knee"])
@pytest.mark.parametrize("kind", ["CT", "MR", "unknown"])
def test_specialised_network_agrees_with_the_shared_one(network: SharedNetwork, kind: str, anatomy: str) -> None:
    x = torch.randn(1, 1, 8, 8, 16)
    baked = network.specialise(kind, anatomy)
    with torch.no_grad():
        torch.testing.assert_close(
            baked(x, kind_code(kind), anatomy), network(x, kind_code(kind), anatomy), atol=1e-4, rtol=1e-4
        )
    assert not any(isinstance(module, ModalityInstanceNorm) for module in baked.modules())


def test_kinds_differ_by_their_norms_alone(network: SharedNetwork) -> None:
    x = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        ct, mr = (network(x, kind_code(kind), "torso") for kind in ("CT", "MR"))
    assert float((ct - mr).abs().max()) > 0.01
    one_set = count_parameters(network, ("gamma", "beta")) / (len(IMAGE_KINDS) * 2)
    assert one_set < 0.05 * count_parameters(network)


def test_fusing_an_image_with_itself_under_one_code_equals_the_plain_features(network: SharedNetwork) -> None:
    x = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        fused = network.forward_fused([x, x], ["CT", "CT"], "torso")
        features = network.encoder(x, network.full_code(kind_code("CT"), "torso"))
        full = network.full_code(kind_code("CT+MR"), "torso")
        expected = network.heads["torso"](network.decoder(features, full)[0], full, 0)
    torch.testing.assert_close(fused, expected, atol=1e-4, rtol=1e-4)


def test_fusion_of_one_image_is_the_plain_forward(network: SharedNetwork) -> None:
    x = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(network.forward_fused([x], ["MR"], "knee"), network(x, kind_code("MR"), "knee"))


def test_fusion_refuses_images_without_kinds(network: SharedNetwork) -> None:
    with pytest.raises(ValueError, match="as many kinds as images"):
        network.forward_fused([torch.zeros(1, 1, 8, 8, 8)], ["CT", "MR"], "torso")


def test_shape_that_does_not_fit_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="supervised levels"):
        NetworkShape({"torso": 2}, blocks_down=(1, 1), blocks_up=(1,), supervised_levels=2)


def test_anatomy_that_the_network_lacks_is_refused(network: SharedNetwork) -> None:
    with pytest.raises(ValueError, match="expected an anatomy of"):
        network(torch.zeros(1, 1, 8, 8, 8), kind_code("CT"), "shoulder")
