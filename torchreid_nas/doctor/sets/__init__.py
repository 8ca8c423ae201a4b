"""Tolerant readers of named data sets and of own data: a fault becomes a finding, and reading goes on."""
