"""A stream: two hundred queries through a session, with slots, a promise and feedback; no model is called."""

import asyncio
import random

from eccos_rs import Overloaded, Policy, Router, Session

random.seed(0)


async def answer(session: Session, question: str) -> str:
    """Take a lease, do the work, say what it took."""
    while True:
        try:
            lease = await session.acquire(question)
            break
        except Overloaded as error:
            await asyncio.sleep(error.retry_after or 0.01)
    with lease:
        tokens = random.randint(20, 60)
        await asyncio.sleep(tokens / 20_000)  # here the model would be called
        lease.release(output_tokens=tokens, quality=float(random.random() < 0.8))
    return lease.model


async def main() -> None:
    """Run all of them at once; the session decides who may go."""
    router = Router.load()
    pool = router.pool.replace("gpt-4o", slots=4)
    async with Session(Router(pool, router.predictor), policy=Policy(min_quality=0.7)) as session:
        questions = [f"What is {number} times {number + 1}?" for number in range(200)]
        models = await asyncio.gather(*(answer(session, question) for question in questions))
    for model in sorted(set(models)):
        print(f"{model:>20}: {models.count(model)}")


if __name__ == "__main__":
    asyncio.run(main())
