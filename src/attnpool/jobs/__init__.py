"""What the project does, one verb a file: a typed function that the command line and Python call alike."""
