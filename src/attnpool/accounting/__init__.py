"""What a network costs: operations, memory by four conventions, time, and what its training keeps."""
