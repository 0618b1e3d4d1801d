"""Orthanc with DICOMweb behind nginx with OHIF: the files of ``deploy/``, with this run's ports and folders in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.installed import DEPLOY, nginx, ohif_folder, orthanc_dicomweb
from tests.peers import orthanc, running
from tests.ports import free_port


@contextmanager
def archive_with_viewer(folder: Path, *contents: Path) -> Iterator[str]:
    """Address of OHIF in front of an Orthanc that holds every DICOM file of some folders.

    Args:
        folder: Where the servers keep their files.
        contents: Folders of DICOM files.
    """
    web = {"Enable": True, "Root": "/dicom-web/", "EnableWado": False}
    with orthanc(folder / "orthanc", further={"Plugins": [str(orthanc_dicomweb())], "DicomWeb": web}) as peer:
        for path in (path for content in contents for path in sorted(content.rglob("*.dcm"))):
            peer.upload(path)
        port, settings = free_port(), folder / "nginx.conf"
        settings.write_text(_nginx_settings(folder / "nginx", port, peer.http_port))
        (folder / "nginx").mkdir()
        with running([str(nginx()), "-c", str(settings), "-g", "daemon off;"], port, folder=folder):
            yield f"http://127.0.0.1:{port}"


def _nginx_settings(folder: Path, port: int, orthanc_port: int) -> str:
    """A whole configuration around the site's: what Debian's nginx.conf says there, but in a folder of this run."""
    site = (DEPLOY / "nginx/ohif.conf").read_text()
    for deployed, here in (
        ("listen 127.0.0.1:8080;", f"listen 127.0.0.1:{port};"),
        ("http://127.0.0.1:8042;", f"http://127.0.0.1:{orthanc_port};"),
        ("root /usr/share/ohif;", f"root {ohif_folder()};"),
        ("alias /etc/ohif/app-config.js;", f"alias {DEPLOY / 'ohif/app-config.js'};"),
    ):
        site, replaced = re.subn(re.escape(deployed), here, site)
        assert replaced == 1, f"deploy/nginx/ohif.conf says {deployed!r} {replaced} times"
    temporary = "".join(
        f"    {kind}_temp_path {folder / kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"pid {folder / 'pid'};\nerror_log {folder / 'error.log'};\nworker_processes 1;\nevents {{}}\n"
        f"http {{\n    include /etc/nginx/mime.types;\n    access_log off;\n{temporary}{site}}}\n"
    )
