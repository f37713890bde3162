"""Reports: tables for people."""
