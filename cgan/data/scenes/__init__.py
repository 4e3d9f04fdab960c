"""TODO scenes"""
