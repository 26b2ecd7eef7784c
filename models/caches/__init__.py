"""What a network has computed, in rows that particles share."""
