"""Programs that each time one library on tasks that come line by line."""
