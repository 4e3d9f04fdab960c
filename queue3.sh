. /tmp/lead/prior/env.sh
run(){ flock /tmp/lead/lock/lane-b python /tmp/lead/prior/variants.py "$@" >> /tmp/lead/prior/variants.log 2>&1; }
run cross_c net=cross couple=1 bf16=1 heads=8 maxpics=50000
run slots_c net=slots couple=1 bf16=1 heads=8 maxpics=50000
