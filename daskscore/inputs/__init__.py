"""Where items come from: one module per variant. Listed in the driver, once, lazily and in a stable order."""
