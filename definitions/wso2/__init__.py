"""The definition forms of WSO2."""
