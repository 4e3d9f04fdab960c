"""TODO encoders"""
