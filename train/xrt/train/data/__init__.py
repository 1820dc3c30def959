"""What a network is fed in training: images of a case table, changed at random, in an order that can be taken up."""
