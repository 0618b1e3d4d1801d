"""The plugin in a real Orthanc, and the bridge with a stand-in for the module ``orthanc``."""
