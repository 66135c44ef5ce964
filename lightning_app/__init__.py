"""steps-to-epsilon: how many SGD steps on one image drive a pretrained classifier's loss to epsilon?"""
