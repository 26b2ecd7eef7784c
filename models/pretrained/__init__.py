"""Networks of the Hugging Face hub: loading, precision, memory."""
