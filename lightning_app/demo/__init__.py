"""What the demo alone has: images to write and small networks to train from scratch."""
