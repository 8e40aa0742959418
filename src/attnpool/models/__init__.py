"""Networks: where backbones downsample, putting pools there, building from a spec, saving and loading."""
