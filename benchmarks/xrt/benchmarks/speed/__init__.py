"""How fast a bundle is: contenders raced in one process, paired."""
