"""Who is named the winner, and what is reported of it."""
