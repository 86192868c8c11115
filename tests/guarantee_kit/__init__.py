"""What the tests of guarantees share: children that may be killed, memory, the table of figures."""
