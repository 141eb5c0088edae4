"""The thin handlers of /v1: parse, ask runs or the store, answer."""
