"""TODO generators"""
