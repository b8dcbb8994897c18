"""From YAML to objects: schema, composition, and what a config may name."""
