"""What a YAML file of settings may say, section by section, and how it is read."""
