"""The maths recipe: what lies between reading rows, solving, checking and judging. From tables to tables.

Each distinct problem is solved k times; its pass rate is the share of its solutions that are right. Where checking two
answers by value does not settle whether they are the same, a judge does (NVIDIA's NeMo-Skills does it in this order).
"""
