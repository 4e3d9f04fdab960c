"""TODO readers"""
