"""The method (Gallego 2022): from a prompt's ids and a target to its personalised conditioning."""
