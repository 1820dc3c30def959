"""The input of training: images of a case table, changed at random, in an order that can be resumed."""
