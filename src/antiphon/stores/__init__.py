"""Where responses live: one folder or file per database, all behind ``engine.ports.stores.Store``."""
