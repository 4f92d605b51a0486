/* The plant that this firmware drives: one header of constants, generated from hardware/plants, with the same
 * names for every plant. Another one than the cart is chosen when the firmware is built, for all files alike:
 *
 *     -DPLANT_HEADER='"../plants/edukit.h"'
 *
 * Lengths, speeds and accelerations of the driven axis are in the plant's own unit: metres for a cart,
 * radians for an arm. The comments in the generated header say which.
 */
#ifndef PLANT_H
#define PLANT_H

#ifndef PLANT_HEADER
#define PLANT_HEADER "../plants/cart_rail.h"
#endif

#include PLANT_HEADER

#endif
