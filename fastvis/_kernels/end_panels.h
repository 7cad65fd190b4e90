/* Ends what panels.h began, before the next number type or level. */

#undef PANEL
#undef ROWS
#undef VECTORS
