"""What befalls the box and the car, as events that never weigh in a score: pure rules, and what they remember."""
