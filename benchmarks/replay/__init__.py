"""The engine and its peers on finished runs: RegMix's public tables, replayed."""
