"""Reference implementations: papers over a thin core. See ``reference_impls.catalogue`` for what is here."""
