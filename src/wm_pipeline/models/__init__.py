"""What is learned: V, M, C, and V and M together as the world model. Plain torch."""
