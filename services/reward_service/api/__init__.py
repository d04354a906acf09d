"""HTTP: the native protocol, OpenRLHF's, operations and the page for people. Domain code never imports this."""
