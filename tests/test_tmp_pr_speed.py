from datetime import timedelta
import time
from support import *
from support import Clock, open_ledger, by, sale, T0, PROGRAM, program_id
from ledger.domain.program import OpenProgram
from ledger.domain.affiliate import *
from ledger.domain.offer import *
from ledger.domain.payout_method import ProposePayoutMethod, DecidePayoutMethod
from ledger.payouts import payees
from ledger import payruns
from ledger.domain.proposing import DecideRun
N=4000
def test_speed(database):
    c=Clock(); t=time.perf_counter()
    def lap(what):
        nonlocal t
        n=time.perf_counter(); print(f"{what:20} {n-t:.2f}"); t=n
    with open_ledger(database,c) as L:
        L.open_program(OpenProgram(program=PROGRAM,currency="GBP",payout_method_wait_hours=0),by())
        names=[f"a{n:05}" for n in range(N)]
        L.execute_many(PROGRAM,[PublishOffer(offer_id="shoes"),PublishTerms(offer_id="shoes",rate_bps=1000,hold_days=0,window_days=30)],by())
        L.execute_many(PROGRAM,[x for a in names for x in (EnrolAffiliate(affiliate_id=a),DecideAffiliate(affiliate_id=a,decision="approve"))],by()); lap("enrol")
        fp="ab"*16
        L.execute_many(PROGRAM,[ProposePayoutMethod(affiliate_id=a,currency="GBP",method="paypal",minimum_amount=0,details={"email":a+"@example.com"},fingerprint=fp) for a in names],by("ana")); lap("method")
        L.execute_many(PROGRAM,[DecidePayoutMethod(affiliate_id=a,currency="GBP",method_version=1,fingerprint=fp,approve=True) for a in names],by("ben")); lap("approve method")
        L.execute_many(PROGRAM,[sale(f"o{i}",10000+i,a) for i,a in enumerate(names)],by()); lap("sales")
        list(L.approve_due(PROGRAM,c.advance(days=1),by())); lap("due")
        c.advance(days=40)
        import cProfile,pstats,os
        pr=cProfile.Profile() if os.environ.get("PROF") else None
        r=payruns.propose(L,PROGRAM,period="2026-01",currency="GBP",method="paypal",meta=by("ana")); lap("propose")
        rid=r.body["run_id"]
        h=payruns.load_run(L,PROGRAM,rid).proposed.hash
        L.execute(PROGRAM,DecideRun(run_id=rid,approve=True,hash=h),by("ben"))
        import psycopg, collections
        tot=collections.Counter(); cnt=collections.Counter()
        orig=psycopg.Cursor.execute
        def ex(self,q,*a,**k):
            t0=time.perf_counter()
            try: return orig(self,q,*a,**k)
            finally:
                kk=str(q)[:70]; tot[kk]+=time.perf_counter()-t0; cnt[kk]+=1
        psycopg.Cursor.execute=ex
        print(payruns.initiate(L,PROGRAM,rid,by("ana"))); lap("initiate")
        psycopg.Cursor.execute=orig
        for k,v in tot.most_common(14): print(f"{v:.2f} {cnt[k]} {k!r}")
        payruns.render(L,PROGRAM,rid,by("ana")); lap("render")
