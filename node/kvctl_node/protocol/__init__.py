"""What travels between processes: message types and their framing (`codec`).

`client_messages` between clients and nodes, `messages` and `repair_messages` between nodes.
"""
