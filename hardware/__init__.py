"""The device: plants, firmware, the wire's definition, and simulators of both.

Importing this package makes `gymnasium.make("hardware:CartRail-v0")` work where Gymnasium is installed; the bridge's
base install does not have it and only imports the wire.
"""

try:
    from gymnasium.envs.registration import register, registry
except ModuleNotFoundError:  # base install: only the wire is needed
    pass
else:
    if "CartRail-v0" not in registry:
        # 500 control periods of 20 ms: the episode of 10 s.
        register(id="CartRail-v0", entry_point="hardware.environment:CartRailEnvironment", max_episode_steps=500)
