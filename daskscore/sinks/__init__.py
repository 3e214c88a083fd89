"""How committed rows become the output: one module per `output_action`. Run in the driver."""
