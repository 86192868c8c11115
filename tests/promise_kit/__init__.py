"""What the tests of promises share: children that may be killed, memory, the table of figures."""
