"""The DICOM conformance statement (PS3.2) of a configuration.

``contexts`` says what is negotiated, ``statement`` puts the whole statement together as one frozen value, and
``rendering`` writes that value as Markdown or HTML.
"""

from dicom_node.conformance.rendering import to_html, to_markdown
from dicom_node.conformance.statement import Statement, conformance_statement

__all__ = ["Statement", "conformance_statement", "to_html", "to_markdown"]
