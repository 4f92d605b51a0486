"""The cart on a rail: every number of its controller in one place, and its MuJoCo simulation.

`CART_RAIL` is the single definition of the constants; `python -m hardware generate` renders them for the firmware
(`plants/cart_rail.h`). Source of the mechanical numbers: the public CO_GYM simulator of the paper's laboratory. The
action range of +-20 m/s^2 is half of theirs: our stated choice, gentler on a real drive.
"""

from __future__ import annotations

from .parameters import PlantParameters
from .pendulum import UPRIGHT_RAD, UPRIGHT_WINDOW_S, AcceleratedPendulum
from .simulation import PendulumPlant

__all__ = ["CART_RAIL", "UPRIGHT_RAD", "UPRIGHT_WINDOW_S", "CartRail", "CartRailParameters", "CartRailPlant"]

CartRailParameters = PlantParameters


class CartRail(AcceleratedPendulum):
    """The constants, with the cart's own names and units for those who know that it is one."""

    @property
    def cart_counts_per_metre(self) -> float:
        """Cart encoder."""
        return self.axis_counts_per_unit

    @property
    def acceleration_limit_m_s2(self) -> float:
        """Full scale of the action."""
        return self.acceleration_limit

    @property
    def brake_acceleration_m_s2(self) -> float:
        """What the cart brakes with."""
        return self.brake_acceleration

    @property
    def speed_limit_m_s(self) -> float:
        """Largest velocity set-point."""
        return self.speed_limit

    @property
    def rail_soft_limit_m(self) -> float:
        """Where the braking envelope ends."""
        return self.axis_soft_limit

    @property
    def rail_limit_m(self) -> float:
        """Beyond it an episode ends and the firmware stops."""
        return self.axis_limit


CART_RAIL = CartRail(
    name="cart_rail",
    environment="hardware:CartRail-v0",
    title="the cart on a rail",
    axis_unit="m",
    observation_names=(
        "cart position [m]",
        "cart speed [m/s]",
        "sin of rod angle",
        "cos of rod angle",
        "rod speed [rad/s]",
    ),
    action_name="cart acceleration [m/s^2]",
    period_us=20_000,
    axis_counts_per_unit=20_000,
    rod_counts_per_revolution=4_096,
    acceleration_limit=20.0,
    brake_acceleration=15.0,
    speed_limit=4.0,
    rest_speed=0.05,  # slower than the swinging rod can shake a cart that is held
    axis_soft_limit=0.70,
    axis_limit=0.75,
    rod_speed_limit_rad_s=35.0,
    # What encoders may say while the drive is on; beyond it they are broken. Numbers of the worst plant that
    # CartRailParameters.sample draws: rod 0.6 kg, centre of mass at 0.144 m (heaviest) or 0.096 m (quickest), drive 150
    # N s/m, friction 2 N + 1 N s/m; rod at the speed limit of 35 rad/s. In brackets: the largest of 300 simulated runs
    # of 15 s with full, alternating, random and pumping accelerations on random and worst plants.
    #
    # Cart, change of speed from period to period: 0.4 m/s by the drive at 20 m/s^2; the rod pulls with up to 0.6 x
    # 0.144 x 35^2 = 106 N, which yields 0.71 m/s and turns by 0.7 rad a period: 0.49 m/s. Together 0.89 [0.71].
    axis_jump=1.2,
    # Rod: gravity g / (4/3 0.096) = 77 rad/s^2, and the cart's 20 m/s^2 with another 0.71 m/s x 35 rad/s = 25 m/s^2 by
    # its yielding, / (4/3 0.096): 351 rad/s^2. In 20 ms 8.6 rad/s [5.1].
    rod_jump_rad_s=10.0,
    # Way that the set-point has gone since the cart count last changed. The count can stand still for the one period in
    # which the cart turns round, at most 0.4 m/s x 20 ms, more where the rod holds it [0.0094].
    axis_frozen=0.02,
    # Set-points below it count for nothing: friction holds the weakest drive up to 2 N / 150 N s/m = 0.013 m/s.
    axis_dead_speed=0.02,
    # Sum of |changes of the set-point| since the rod count last changed. Each throws the rod, unless gravity happens to
    # undo it, which it does for a period or two: twice 0.4 m/s [0.46].
    rod_frozen=1.0,
    # Changes below it count for nothing, or a rod that hangs still under a cart that is held would look frozen in the
    # end: 0.01 m/s in a period turn the quickest rod by 0.01 / (4/3 0.096) 20 ms / 2 = 0.8 mrad, half a count.
    rod_dead_change=0.01,
)


class CartRailPlant(PendulumPlant):
    """MuJoCo simulation of rail, cart, rod, drive and encoders (cart_rail.xml)."""

    def __init__(self, constants: CartRail = CART_RAIL) -> None:
        super().__init__(constants)

    @property
    def cart_position_m(self) -> float:
        """True cart position."""
        return self.axis_position

    @property
    def cart_speed_m_s(self) -> float:
        """True cart speed."""
        return self.axis_speed

    @property
    def cart_count(self) -> int:
        """Cart encoder, zero in the middle of the rail."""
        return self.axis_count
