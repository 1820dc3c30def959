"""Which activation is explained, and how it lies in memory."""
