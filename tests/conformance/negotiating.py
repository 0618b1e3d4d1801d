"""Asking a listener what it accepts, context by context, whatever anybody claims."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from pydicom._uid_dict import UID_dictionary
from pynetdicom import AE, AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext, build_context, build_role

from dicom_node.conformance.contexts import ContextClaim

EVERY_SYNTAX = tuple(uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax")
"""Of PS3.6, retired ones too."""
STORAGE_CLASSES = tuple(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
OTHER_CLASSES = tuple(
    uid for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class" and uid not in STORAGE_CLASSES
)
EVERY_CLASS = (*STORAGE_CLASSES, *OTHER_CLASSES)
_CONTEXTS = 128
"""Most of one association: their identifiers are odd and below 256 (PS3.8 9.3.2.2)."""
Negotiate = Callable[[Sequence[PresentationContext]], Iterable[PresentationContext]]
"""Proposes contexts over an association of its own; gives those that were accepted."""
Accepted = set[tuple[str, str, str]]
"""SOP class, transfer syntax, role of the node."""


def accepted_by(negotiate: Negotiate, classes: Sequence[str]) -> Accepted:
    """Everything that is accepted of some classes: those that are taken at all, then in each syntax alone."""
    single = [build_context(uid, syntax) for uid in taken_by(negotiate, classes) for syntax in EVERY_SYNTAX]
    return {
        (str(context.abstract_syntax), str(context.transfer_syntax[0]), role)
        for context in _negotiated(negotiate, single)
        for role in _roles_of_acceptor(context)
    }


def taken_by(negotiate: Negotiate, classes: Sequence[str]) -> list[str]:
    """The classes that are accepted in any transfer syntax."""
    contexts = [build_context(uid, list(EVERY_SYNTAX)) for uid in classes]
    return list(dict.fromkeys(str(context.abstract_syntax) for context in _negotiated(negotiate, contexts)))


def claimed(contexts: Iterable[ContextClaim]) -> Accepted:
    """What a statement claims, in the same terms."""
    return {
        (context.sop_class, syntax, role)
        for context in contexts
        for syntax in context.syntaxes
        for role in context.role.split("/")
    }


def negotiator(port: int, called: str, calling: str = "TEST", *, tls_args: object = None) -> Negotiate:
    """Negotiates with who listens on a port of this machine, and proposes both roles for every class."""

    def negotiate(contexts: Sequence[PresentationContext]) -> Iterable[PresentationContext]:
        entity = AE(ae_title=calling)
        classes = dict.fromkeys(str(context.abstract_syntax) for context in contexts)
        roles = [build_role(uid, scu_role=True, scp_role=True) for uid in classes]
        association = entity.associate(
            "127.0.0.1", port, contexts=list(contexts), ae_title=called, ext_neg=list(roles), tls_args=tls_args
        )
        assert association.is_established or association.is_aborted, "the association was not accepted"
        accepted = list(association.accepted_contexts)
        if association.is_established:
            association.release()
        return accepted

    return negotiate


def _negotiated(negotiate: Negotiate, contexts: Sequence[PresentationContext]) -> Iterator[PresentationContext]:
    for first in range(0, len(contexts), _CONTEXTS):
        yield from negotiate(contexts[first : first + _CONTEXTS])


def _roles_of_acceptor(context: PresentationContext) -> Iterator[str]:
    """The roles of who accepted, from those of who asked."""
    if context.as_scu:
        yield "SCP"
    if context.as_scp:
        yield "SCU"
