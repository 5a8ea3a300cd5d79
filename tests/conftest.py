"""Settings for the whole suite: they must precede the first use of a device."""

import jax

# Eight virtual devices on any machine, so that what is said of many devices is tested everywhere.
jax.config.update("jax_num_cpu_devices", 8)
