"""What travels between processes: message types (`messages`) and their framing (`codec`)."""
