"""Image encoders: ResNet, and frozen pretrained networks."""
