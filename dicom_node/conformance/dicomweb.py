"""DICOMweb services (PS3.18): the Store transaction as origin server and as user agent; queries as user agent."""

from __future__ import annotations

from dicom_node.conformance.document import Section, Table
from dicom_node.settings import DicomwebDestinationTable, PeerTable, Settings


def web_services(settings: Settings) -> tuple[Section, ...]:
    """The services of this configuration; nothing where it has none."""
    parts = (*_origin_server(settings), *_user_agent(settings))
    return (Section("DICOMweb services", (), parts),) if parts else ()


def _origin_server(settings: Settings) -> tuple[Section, ...]:
    web = settings.dicomweb
    if web.port is None:
        return ()
    callers = tuple(
        (peer.ae_title, peer.address, " and ".join(_shown_by(peer))) for peer in settings.peers if peer.may_use_dicomweb
    )
    root = f"{'https' if web.tls else 'http'}://{web.bind}:{web.port}{web.prefix}"
    return (
        Section(
            "Store transaction as origin server (PS3.18 10.5)",
            (
                (
                    f"POST {root}/studies and /studies/STUDY take multipart/related of application/dicom: PS3.10 files "
                    f"of the classes and transfer syntaxes that C-STORE takes, {web.parts} in a request at most. "
                    "Metadata with bulk data apart, and a Content-Encoding, are answered 415. The answer is "
                    "application/dicom+json. Query and retrieve are not offered."
                ),
                Table(
                    ("HTTP status", "when"),
                    (
                        ("200", "all are on disk, fsynced, and on record"),
                        ("202", "some are; the others are listed with the statuses of C-STORE as Failure Reasons"),
                        ("409", "none is; C122 stands for a transfer syntax that is not taken"),
                        ("400 to 415, 431", "the request cannot be read, is too large, or nobody knows the caller"),
                        ("503", "there is no room, or the node is stopping: again after Retry-After"),
                    ),
                ),
                Table(("peer", "address", "has to show"), callers),
            ),
        ),
    )


def _user_agent(settings: Settings) -> tuple[Section, ...]:
    if not any(isinstance(item, DicomwebDestinationTable) for item in settings.destinations):
        return ()
    return (
        Section(
            "Store and search transactions as user agent (PS3.18 10.5, 10.6)",
            (
                (
                    "Results go by POST to /studies of a destination, each in a request of its own, as "
                    "multipart/related of application/dicom. Redirections are not followed."
                ),
                Table(
                    ("HTTP status", "what the node does"),
                    (
                        ("2xx", "takes the instance as stored if the answer names it so (0008,1199)"),
                        ("2xx without that", "searches for it; sends it again unless it is listed"),
                        ("409, or listed as failed", "does as with the same status of C-STORE"),
                        ("401, 403, 408, 425, 429, 5xx but 501 and 505", "sends it again after retry_seconds"),
                        ("any other", "does not send it again; a person sees the delivery held"),
                    ),
                ),
                (
                    "Before anything is sent again, and to confirm arrival, it searches for instances: GET "
                    "/studies/STUDY/series/SERIES/instances?SOPInstanceUID=UID, answered as application/dicom+json."
                ),
            ),
        ),
    )


def _shown_by(peer: PeerTable) -> list[str]:
    shown = ["bearer token"] if peer.token_file is not None else []
    return [*shown, "client certificate"] if peer.has_certificate else shown
