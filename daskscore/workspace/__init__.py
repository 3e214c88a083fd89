"""What is registered: data, models and datastores, by name and version. Opened in the driver and by the command line."""
