"""Image encoders: ResNets, CLIP, and frozen pretrained networks."""
