"""Write the page with its tables and figures."""
