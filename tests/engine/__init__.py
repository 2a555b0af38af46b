"""Tests with the real Pulumi CLI, local state and real models."""
