"""Pre-training of the embedded base network: cases, crops, synthetic images, losses, the loop."""
